package emulator

import (
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecsschemas "github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmschemas "github.com/aws/aws-sdk-go-v2/service/ssm/schemas"
)

// sdkModels are the operations that the SDK knows, by service and name.
func sdkModels() map[string]sdkModel {
	return map[string]sdkModel{
		"ecs:CreateCluster": ecsModel(
			ecsschemas.CreateClusterRequest, ecsschemas.CreateClusterResponse,
			(*ecs.Client).CreateCluster),
		"ecs:CreateService": ecsModel(
			ecsschemas.CreateServiceRequest, ecsschemas.CreateServiceResponse,
			(*ecs.Client).CreateService),
		"ecs:DeleteService": ecsModel(
			ecsschemas.DeleteServiceRequest, ecsschemas.DeleteServiceResponse,
			(*ecs.Client).DeleteService),
		"ecs:DeregisterContainerInstance": ecsModel(
			ecsschemas.DeregisterContainerInstanceRequest, ecsschemas.DeregisterContainerInstanceResponse,
			(*ecs.Client).DeregisterContainerInstance),
		"ecs:DeregisterTaskDefinition": ecsModel(
			ecsschemas.DeregisterTaskDefinitionRequest, ecsschemas.DeregisterTaskDefinitionResponse,
			(*ecs.Client).DeregisterTaskDefinition),
		"ecs:DescribeClusters": ecsModel(
			ecsschemas.DescribeClustersRequest, ecsschemas.DescribeClustersResponse,
			(*ecs.Client).DescribeClusters),
		"ecs:DescribeContainerInstances": ecsModel(
			ecsschemas.DescribeContainerInstancesRequest, ecsschemas.DescribeContainerInstancesResponse,
			(*ecs.Client).DescribeContainerInstances),
		"ecs:DescribeServices": ecsModel(
			ecsschemas.DescribeServicesRequest, ecsschemas.DescribeServicesResponse,
			(*ecs.Client).DescribeServices),
		"ecs:DescribeTaskDefinition": ecsModel(
			ecsschemas.DescribeTaskDefinitionRequest, ecsschemas.DescribeTaskDefinitionResponse,
			(*ecs.Client).DescribeTaskDefinition),
		"ecs:DescribeTasks": ecsModel(
			ecsschemas.DescribeTasksRequest, ecsschemas.DescribeTasksResponse,
			(*ecs.Client).DescribeTasks),
		"ecs:DiscoverPollEndpoint": ecsModel(
			ecsschemas.DiscoverPollEndpointRequest, ecsschemas.DiscoverPollEndpointResponse,
			(*ecs.Client).DiscoverPollEndpoint),
		"ecs:ListClusters": ecsModel(
			ecsschemas.ListClustersRequest, ecsschemas.ListClustersResponse,
			(*ecs.Client).ListClusters),
		"ecs:ListContainerInstances": ecsModel(
			ecsschemas.ListContainerInstancesRequest, ecsschemas.ListContainerInstancesResponse,
			(*ecs.Client).ListContainerInstances),
		"ecs:ListServices": ecsModel(
			ecsschemas.ListServicesRequest, ecsschemas.ListServicesResponse,
			(*ecs.Client).ListServices),
		"ecs:ListTaskDefinitions": ecsModel(
			ecsschemas.ListTaskDefinitionsRequest, ecsschemas.ListTaskDefinitionsResponse,
			(*ecs.Client).ListTaskDefinitions),
		"ecs:ListTasks": ecsModel(
			ecsschemas.ListTasksRequest, ecsschemas.ListTasksResponse,
			(*ecs.Client).ListTasks),
		"ecs:PutAttributes": ecsModel(
			ecsschemas.PutAttributesRequest, ecsschemas.PutAttributesResponse,
			(*ecs.Client).PutAttributes),
		"ecs:RegisterContainerInstance": ecsModel(
			ecsschemas.RegisterContainerInstanceRequest, ecsschemas.RegisterContainerInstanceResponse,
			(*ecs.Client).RegisterContainerInstance),
		"ecs:RegisterTaskDefinition": ecsModel(
			ecsschemas.RegisterTaskDefinitionRequest, ecsschemas.RegisterTaskDefinitionResponse,
			(*ecs.Client).RegisterTaskDefinition),
		"ecs:RunTask": ecsModel(ecsschemas.RunTaskRequest, ecsschemas.RunTaskResponse, (*ecs.Client).RunTask),
		"ecs:StartTask": ecsModel(
			ecsschemas.StartTaskRequest, ecsschemas.StartTaskResponse,
			(*ecs.Client).StartTask),
		"ecs:StopTask": ecsModel(ecsschemas.StopTaskRequest, ecsschemas.StopTaskResponse, (*ecs.Client).StopTask),
		"ecs:SubmitAttachmentStateChanges": ecsModel(
			ecsschemas.SubmitAttachmentStateChangesRequest, ecsschemas.SubmitAttachmentStateChangesResponse,
			(*ecs.Client).SubmitAttachmentStateChanges),
		"ecs:SubmitContainerStateChange": ecsModel(
			ecsschemas.SubmitContainerStateChangeRequest, ecsschemas.SubmitContainerStateChangeResponse,
			(*ecs.Client).SubmitContainerStateChange),
		"ecs:SubmitTaskStateChange": ecsModel(
			ecsschemas.SubmitTaskStateChangeRequest, ecsschemas.SubmitTaskStateChangeResponse,
			(*ecs.Client).SubmitTaskStateChange),
		"ecs:TagResource": ecsModel(
			ecsschemas.TagResourceRequest, ecsschemas.TagResourceResponse,
			(*ecs.Client).TagResource),
		"ecs:UpdateContainerInstancesState": ecsModel(
			ecsschemas.UpdateContainerInstancesStateRequest, ecsschemas.UpdateContainerInstancesStateResponse,
			(*ecs.Client).UpdateContainerInstancesState),
		"ecs:UpdateService": ecsModel(
			ecsschemas.UpdateServiceRequest, ecsschemas.UpdateServiceResponse,
			(*ecs.Client).UpdateService),
		"ssm:CreateActivation": ssmModel(
			ssmschemas.CreateActivationRequest, ssmschemas.CreateActivationResult,
			(*ssm.Client).CreateActivation),
		"ssm:DeleteActivation": ssmModel(
			ssmschemas.DeleteActivationRequest, ssmschemas.DeleteActivationResult,
			(*ssm.Client).DeleteActivation),
		"ssm:DeregisterManagedInstance": ssmModel(
			ssmschemas.DeregisterManagedInstanceRequest, ssmschemas.DeregisterManagedInstanceResult,
			(*ssm.Client).DeregisterManagedInstance),
		"ssm:DescribeActivations": ssmModel(
			ssmschemas.DescribeActivationsRequest, ssmschemas.DescribeActivationsResult,
			(*ssm.Client).DescribeActivations),
		"ssm:DescribeAssociation": ssmModel(
			ssmschemas.DescribeAssociationRequest, ssmschemas.DescribeAssociationResult,
			(*ssm.Client).DescribeAssociation),
		"ssm:DescribeDocument": ssmModel(
			ssmschemas.DescribeDocumentRequest, ssmschemas.DescribeDocumentResult,
			(*ssm.Client).DescribeDocument),
		"ssm:DescribeInstanceInformation": ssmModel(
			ssmschemas.DescribeInstanceInformationRequest, ssmschemas.DescribeInstanceInformationResult,
			(*ssm.Client).DescribeInstanceInformation),
		"ssm:GetConnectionStatus": ssmModel(
			ssmschemas.GetConnectionStatusRequest, ssmschemas.GetConnectionStatusResponse,
			(*ssm.Client).GetConnectionStatus),
		"ssm:GetDocument": ssmModel(
			ssmschemas.GetDocumentRequest, ssmschemas.GetDocumentResult,
			(*ssm.Client).GetDocument),
		"ssm:GetParameter": ssmModel(
			ssmschemas.GetParameterRequest, ssmschemas.GetParameterResult,
			(*ssm.Client).GetParameter),
		"ssm:GetParameters": ssmModel(
			ssmschemas.GetParametersRequest, ssmschemas.GetParametersResult,
			(*ssm.Client).GetParameters),
		"ssm:ListAssociations": ssmModel(
			ssmschemas.ListAssociationsRequest, ssmschemas.ListAssociationsResult,
			(*ssm.Client).ListAssociations),
		"ssm:PutComplianceItems": ssmModel(
			ssmschemas.PutComplianceItemsRequest, ssmschemas.PutComplianceItemsResult,
			(*ssm.Client).PutComplianceItems),
		"ssm:PutInventory": ssmModel(
			ssmschemas.PutInventoryRequest, ssmschemas.PutInventoryResult,
			(*ssm.Client).PutInventory),
		"ssm:UpdateAssociationStatus": ssmModel(
			ssmschemas.UpdateAssociationStatusRequest, ssmschemas.UpdateAssociationStatusResult,
			(*ssm.Client).UpdateAssociationStatus),
		"ssm:UpdateManagedInstanceRole": ssmModel(
			ssmschemas.UpdateManagedInstanceRoleRequest, ssmschemas.UpdateManagedInstanceRoleResult,
			(*ssm.Client).UpdateManagedInstanceRole),
	}
}

// members are those of a structure, in a table.
type members map[string]kind

// agentModel is an operation that agents alone call: what it takes, what of that must be there, what it answers.
type agentModel struct {
	input  members
	must   []string
	output members
}

// agentModels are the operations that are not in the SDK. Source: the agents' own clients, amazon-ssm-agent 3.3.4364
// (extra/aws-sdk-go/service/ssm and ssmmds, api.go), read 2026-11-25.
func agentModels() map[string]agentModel {
	return map[string]agentModel{
		"ssm:RegisterManagedInstance": {
			members{
				"ActivationCode": text, "ActivationId": text, "Fingerprint": text, "IamRole": text, "PublicKey": text,
				"PublicKeyType": text, "Tags": anything,
			},
			[]string{"Fingerprint", "PublicKey"}, members{"InstanceId": text},
		},
		"ssm:RequestManagedInstanceRoleToken": {
			members{"Fingerprint": text}, []string{"Fingerprint"},
			members{
				"AccessKeyId": text, "SecretAccessKey": text, "SessionToken": text, "TokenExpirationDate": moment,
				"UpdateKeyPair": flag,
			},
		},
		"ssm:UpdateManagedInstancePublicKey": {
			members{"NewPublicKey": text, "NewPublicKeyType": text}, []string{"NewPublicKey", "NewPublicKeyType"}, members{},
		},
		"ssm:UpdateInstanceInformation": {
			members{
				"AgentName": text, "AgentStatus": text, "AgentVersion": text, "AvailabilityZone": text, "AvailabilityZoneId": text,
				"ComputerName": text, "IPAddress": text, "InstanceId": text, "PlatformName": text, "PlatformType": text,
				"PlatformVersion": text, "SSMConnectionChannel": text,
			},
			[]string{"InstanceId"}, members{},
		},
		"ssm:ListInstanceAssociations": {
			members{"InstanceId": text, "MaxResults": number, "NextToken": text}, []string{"InstanceId"},
			members{"Associations": anything, "NextToken": text},
		},
		"ssm:UpdateInstanceAssociationStatus": {
			members{"AssociationId": text, "AssociationVersion": text, "ExecutionResult": anything, "InstanceId": text},
			[]string{"AssociationId", "ExecutionResult", "InstanceId"}, members{},
		},
		"ssm:PutConfigurePackageResult": {
			members{
				"Attributes": anything, "Operation": text, "OverallTiming": number, "PackageName": text, "PackageVersion": text,
				"PreviousPackageVersion": text, "Result": number, "Steps": anything,
			},
			[]string{"Operation", "OverallTiming", "PackageName", "PackageVersion", "Result"}, members{},
		},
		"ssm:GetManifest": {
			members{"PackageName": text, "PackageVersion": text}, []string{"PackageName", "PackageVersion"},
			members{"Manifest": text},
		},
		"ec2messages:GetMessages": {
			members{"Destination": text, "MessagesRequestId": text, "NextToken": text, "VisibilityTimeoutInSeconds": number},
			[]string{"Destination", "MessagesRequestId"},
			members{"Destination": text, "Messages": anything, "MessagesRequestId": text},
		},
		"ec2messages:AcknowledgeMessage": {members{"MessageId": text}, []string{"MessageId"}, members{}},
		"ec2messages:DeleteMessage":      {members{"MessageId": text}, []string{"MessageId"}, members{}},
		"ec2messages:FailMessage": {
			members{"FailureType": text, "MessageId": text}, []string{"FailureType", "MessageId"}, members{},
		},
		"ec2messages:SendReply": {
			members{"DeliveryOptions": anything, "MessageId": text, "Payload": text, "ReplyId": text},
			[]string{"MessageId", "Payload", "ReplyId"},
			members{"Description": text, "MessageId": text, "ReplyId": text, "ReplyStatus": text},
		},
		"ec2messages:GetEndpoint": {members{"Destination": text}, []string{"Destination"}, members{"Endpoint": text}},
	}
}

// agentsOwn are members that the ECS agent sends or reads and the SDK does not have. Source: amazon-ecs-agent 1.105.1
// (aws-sdk-go-v2/service/ecs, its own copy), read 2026-11-25.
var agentsOwn = map[string]agentModel{
	"ecs:RegisterContainerInstance": {input: members{"clientToken": text}},
	"ecs:DiscoverPollEndpoint":      {input: members{"zoneId": text}, output: members{"systemLogsEndpoint": text}},
}

// models are read when an operation is first called, and kept for the life of the program: they are the same for every
// emulator.
var models struct {
	sync.Mutex
	tables sync.Once
	sdk    map[string]sdkModel
	agents map[string]agentModel
	read   map[string]*model
}

// modelOf finds the model of an operation; nil where there is none.
func modelOf(operation string) *model {
	models.tables.Do(func() {
		models.sdk, models.agents, models.read = sdkModels(), agentModels(), map[string]*model{}
	})
	models.Lock()
	defer models.Unlock()
	if known, ok := models.read[operation]; ok {
		return known
	}
	var made *model
	if m, ok := models.sdk[operation]; ok {
		made = m.read()
		more := agentsOwn[operation]
		made.input, made.output = made.input.with(more.input), made.output.with(more.output)
	} else if m, ok := models.agents[operation]; ok {
		made = &model{input: (&shape{kind: structure}).with(m.input), output: (&shape{kind: structure}).with(m.output)}
		made.input.required = m.must
	}
	models.read[operation] = made
	return made
}

// with is a structure that has more members.
func (s *shape) with(more members) *shape {
	if len(more) == 0 && s.members != nil {
		return s
	}
	out := &shape{kind: s.kind, members: maps.Clone(s.members), required: slices.Clone(s.required)}
	if out.members == nil {
		out.members = map[string]*shape{}
	}
	for name, k := range more {
		out.members[name] = &shape{kind: k}
	}
	return out
}
